"""How the networks are made: regressor, domain randomisation, losses, training, checkpoints."""
