"""Damage of every kind, by the thousand: whatever a file holds, a run ends with a code of the contract.

A case is a folder of files and a command, both made from a seed by a subject (a module here). A worker (`worker.py`) runs cases
in a process under limits of time and memory and judges what each left; the parent (`campaign.py`) starts another worker when one
dies. The message of a failure names subject and seed, and how to run that case alone.
"""
