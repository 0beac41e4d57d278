"""What things are: objects, volumes, tape sets, shipments, plans, verdicts. Pure, no I/O."""
