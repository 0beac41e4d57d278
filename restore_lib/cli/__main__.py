"""`python -m restore_lib.cli` is `tapeflow`."""

from restore_lib.cli.app import main

if __name__ == "__main__":
    main()
