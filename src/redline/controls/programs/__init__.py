"""Programs that controls write into their cell as text. They import nothing of redline's."""
