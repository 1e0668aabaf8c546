/* SPDX-License-Identifier: MIT */
/*
 * DeltaZero: files under a path, served from a cache of Azure Blob Storage.
 *
 * A program needs nothing of this header to be served: the library is loaded in
 * front of it (LD_PRELOAD=libdeltazero.so, or `dz run`) and answers its calls on
 * paths below a mount.  No function is exported for programs to call yet; what
 * is here is fixed for scripts and wrappers:
 *
 *   DELTAZERO_MOUNT=LOCAL=URL[;LOCAL=URL]...
 *	What is below the path LOCAL is the container (or the prefix in it) of URL:
 *	https://ACCOUNT.blob.core.windows.net/CONTAINER[/PREFIX][?SAS],
 *	http://HOST:PORT/ACCOUNT/CONTAINER, az://CONTAINER,
 *	abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PREFIX, wasbs://...
 *   DELTAZERO_CONFIG=FILE	the same settings, one NAME=VALUE a line
 *   DELTAZERO_CACHE_DIR=DIR	where the NVMe tier lies
 *   DELTAZERO_SHM_DIR=DIR	where the DRAM tier and the index lie (/dev/shm)
 *   DELTAZERO_DRAM_SIZE=N	bytes at most, with K, M, G; so DELTAZERO_DISK_SIZE
 *   DELTAZERO_FETCH=agent|inline	who talks to Blob: one process of the node, or each
 *   DELTAZERO_METADATA_TTL=N	seconds that a name, size and ETag are trusted, or inf
 *   DELTAZERO_LOG=LEVEL[:FILE]	error, warn, info or debug
 *
 * Credentials are read from AZURE_STORAGE_ACCOUNT, AZURE_STORAGE_KEY and the
 * other names that the Azure CLI and blobfuse2 use.
 */
#ifndef DELTAZERO_H
#define DELTAZERO_H

#define DELTAZERO_VERSION	 "0.1.0"
#define DELTAZERO_VERSION_NUMBER 100 /* major * 10000 + minor * 100 + patch */

/* Names of the environment, for wrappers that set it. */
#define DELTAZERO_ENV_MOUNT	"DELTAZERO_MOUNT"
#define DELTAZERO_ENV_CACHE_DIR "DELTAZERO_CACHE_DIR"
#define DELTAZERO_ENV_SHM_DIR	"DELTAZERO_SHM_DIR"
#define DELTAZERO_ENV_DRAM_SIZE "DELTAZERO_DRAM_SIZE"
#define DELTAZERO_ENV_DISK_SIZE "DELTAZERO_DISK_SIZE"

#endif
