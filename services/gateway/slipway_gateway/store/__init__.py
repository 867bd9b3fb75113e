"""The only place with the gateway's SQL; its statements are in ../sql."""
