"""Keys, the tokens they sign, and secrets at rest."""
