"""Intake, worker, interpreter, action protocol, approvals, recorder, sequencer."""
