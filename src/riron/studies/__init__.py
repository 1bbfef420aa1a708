"""The claims: one small file each = problem + dynamics + prediction + verdict. A file is a study if it defines one."""
