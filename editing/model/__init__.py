"""The model as an editor sees it: layouts, the view, tokens, partial forward passes, loading."""
