"""Run the check `pipeline.infrastructure.verify.end_to_end` on the deployed system."""

import sys

from pipeline.infrastructure.verify.run_check import run_check

if __name__ == "__main__":
    sys.exit(run_check("end_to_end", sys.argv[1:]))
