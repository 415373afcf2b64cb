"""What a CT and a radiograph are: reading, checking, masks, labels; no poses and no rendering."""
