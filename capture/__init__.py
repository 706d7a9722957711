"""From a camera or a folder of RAW files to pairs of one scene."""
