"""The rehearsal ground: a cloud the size of this computer. Met by everything else on the wire alone."""
