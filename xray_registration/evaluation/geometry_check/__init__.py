"""Is this the right camera, and the right pose? Said in words, before anything is registered."""
