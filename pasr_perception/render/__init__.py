"""Point splatting (differentiable, for features) and mesh ray casting (offline, for views and simulated photos)."""
