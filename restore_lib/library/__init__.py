"""The machines: changer and drives, virtual (SIMH images) now and SCSI later, and their leases."""
