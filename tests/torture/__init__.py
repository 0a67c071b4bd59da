"""Failure, rehearsed: the installed program is killed at named steps, and what it promised is held against what came.

    make torture TORTURE_ARGS="--minutes 10"        scenarios without end, from a seed that is printed
    make torture TORTURE_ARGS="--seed 7 --count 1"  one of them again

`scenario` says what happens, `run` makes it happen (`program`, `steps`, `client`, `stage`), `promises` judges, `shrink`
makes a failure small, `report` tells. docs/torture.md explains how to read one.
"""
