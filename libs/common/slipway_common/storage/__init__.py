"""Where the bytes of blobs are kept: one port, with files and S3 behind it."""
