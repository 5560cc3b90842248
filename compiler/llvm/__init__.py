"""Level 3: LLVM IR.  Only this package (and the runtime's native parts) imports llvmlite."""
