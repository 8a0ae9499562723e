"""Notebook 12: the paper's penalty under its other name, the z-loss.

Five studies, each a module that trains and remembers (:mod:`.classifier`, :mod:`.contrastive`,
:mod:`.plug_in`, :mod:`.language`) over :mod:`.members`; :mod:`.report` draws and judges.
"""
