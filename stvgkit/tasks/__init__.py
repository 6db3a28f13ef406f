"""Tasks for lmms-eval: HC-STVG v1 and v2, VidSTG by kind of sentence, VUE-STG, in both spaces.

    TASKS=$(python -c "import stvgkit.tasks as tasks; print(*tasks.__path__)")
    STVGKIT_DATA=DIR python -m lmms_eval --include_path $TASKS --tasks stvg_hcstvg_v2 --model ...

`DIR` holds a prepared split for each benchmark that is asked for: `hcstvg-v1`, `hcstvg-v2`,
`vidstg`, `vue-stg`, each written by `stvgkit prepare`. Each `NAME.yaml` is a task; settings.json
says which split, space and protocol it has. docs/elsewhere.md tells more.
"""
