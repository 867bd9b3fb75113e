"""What every HTTP surface of Slipway shares: listening, health, request ids, errors as problem documents."""
