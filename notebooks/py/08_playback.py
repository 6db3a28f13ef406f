# %% [markdown]
# In work.
