"""Everything that comes from or goes to disk: simulated scenes, photo effects, data set readers and ROS bags."""
