"""How it is said in HTTP. Flask and WSGI live here and nowhere else."""
