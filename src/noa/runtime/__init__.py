"""Local engines as processes of ours."""
