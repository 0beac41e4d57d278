"""Where objects live: local folder, S3, SFTP; one protocol, one conformance suite."""
