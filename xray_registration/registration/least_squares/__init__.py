"""The parts of a Levenberg-Marquardt optimisation, each with one job."""
