"""What nddr-deploy can do on this machine, what is missing, and the command that would install it."""

from nddr_deploy.doctor.diagnosis import Diagnosis, diagnose

__all__ = ["Diagnosis", "diagnose"]
