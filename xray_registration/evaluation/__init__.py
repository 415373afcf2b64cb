"""How good the registration is: metrics, protocols, reports."""
