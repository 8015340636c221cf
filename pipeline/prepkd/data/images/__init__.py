"""Images as files hold them: decoding, encoded bytes, statistics."""
