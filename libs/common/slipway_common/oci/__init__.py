"""The words of the OCI specifications: names, digests, media types, manifests. Pure: no I/O."""
