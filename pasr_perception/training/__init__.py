"""Training of point features: observations of meshes, their cache, the distillation of PASR eq. 7-8, checkpoints."""
