"""What align needs: links between words from three sources, and fertilities made of them."""
