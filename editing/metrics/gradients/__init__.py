"""Inner products of facts' gradients, of what entered each module and of how its answer counted.

    passes -> heard -> terms -> tally

No gradient of a parameter is ever formed (METRICS 1.1). What is used from outside is in
editing.metrics.gradsim.
"""
