"""Pure functions on rotations, cameras, viewpoints and symmetries."""
