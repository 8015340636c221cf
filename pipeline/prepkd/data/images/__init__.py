"""Images in files: decoding, encoded bytes, statistics."""
