"""Groups frames into scenes and pairs them by EXIF rules, by content or by a table."""
