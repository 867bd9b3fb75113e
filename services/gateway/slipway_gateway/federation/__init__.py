"""People and builds that somebody else vouches for: an OpenID provider, the issuers of CI systems."""
