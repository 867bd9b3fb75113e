"""Changes to the schema `metadata`; run by slipway_common.database.migrations."""
