"""`python -m workers` starts a worker; its settings come from the environment."""

from workers.main import main

if __name__ == "__main__":
    main()
