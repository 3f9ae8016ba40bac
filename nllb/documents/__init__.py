"""Documents: files in many formats, translated with their markup and layout kept."""
