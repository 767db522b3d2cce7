"""The tests of panicmail; CONTRIBUTING.md says which of them stand where and how to run them."""

import os
import sys

# The tests start the program some hundred times. Where bytecode is not kept, every start compiles all of it anew, which
# takes more than all else it does.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
