"""The lab's systems, reached like any vendor's: `soar lab` serves them, these connectors call them."""
