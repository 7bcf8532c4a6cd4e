"""``hectocar bench``: how fast the program is on this machine, beside named others under the same conditions."""
