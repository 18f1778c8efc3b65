"""A point encoder: point clouds in, features that compare with an image encoder's out (PASR 3.2; PointNeXt)."""
