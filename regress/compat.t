#!/bin/sh
# What other systems lack, on its own; the program prints TAP itself.
exec "$(dirname "$0")/compat-test"
