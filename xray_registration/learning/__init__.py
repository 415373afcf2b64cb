"""How the networks are made: pose regressor, domain randomisation, losses, training, checkpoints."""
