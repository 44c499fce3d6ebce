"""Exchange with audiocraft, Meta's own MusicGen code, by its checkpoint files; it is neither imported nor needed."""
