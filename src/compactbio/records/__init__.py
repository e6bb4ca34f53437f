"""What makes work traceable and safe to interrupt: hashes, atomic files, cards."""
