"""Renders Dockerfiles, dev container configurations and deployments from plan and locks. Pure."""
