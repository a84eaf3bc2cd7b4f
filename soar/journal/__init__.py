"""The journal: Merkle tree, signed notes, leaves, verification; pure."""
