"""Run the check `pipeline.infrastructure.verify.ecs_api` on the deployed system."""

import sys

from pipeline.infrastructure.verify.run_check import run_check

if __name__ == "__main__":
    sys.exit(run_check("ecs_api", sys.argv[1:]))
