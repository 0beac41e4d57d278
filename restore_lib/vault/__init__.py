"""Volumes on their way: boxes, shipments, documents, couriers, recalls."""
