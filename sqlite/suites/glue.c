/*
** Linked into SQLite's own test tools, which know nothing of extensions: makes the VFS of an extension
** the default one when the process starts.
**
** PAGESTORE_SUITE_EXTENSION names the extension; without it the tool works on plain files, so one binary
** gives both sides of a comparison.
*/
#include "sqlite3.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failed(int rc, const char *what, const char *why){
  /* Some tests let the memory run out: SQLite's own affair. An extension's own error code is lost. */
  if( rc==SQLITE_NOMEM || (why && strstr(why, "out of memory")) ) return SQLITE_NOMEM;
  fprintf(stderr, "suites: %s: %s\n", what, why ? why : "error without a message");
  exit(3);
}

/* Given by testfixture, which keeps files beside its volumes: tcl.c. */
sqlite3_vfs *pagestore_suite_wrap(sqlite3_vfs*) __attribute__((weak));

/* Called by SQLite at the end of every sqlite3_initialize(): -DSQLITE_EXTRA_INIT. */
int pagestore_suite_init(const char *unused){
  const char *extension = getenv("PAGESTORE_SUITE_EXTENSION");
  sqlite3 *db = 0;
  static sqlite3_vfs *vfs = 0;
  char *why = 0;
  int rc;
  (void)unused;
  if( extension==0 || extension[0]==0 ) return SQLITE_OK;
  /* A program loads it once. After a shutdown of SQLite only the default VFS is to be said anew. */
  if( vfs ) return sqlite3_vfs_register(vfs, 1);
  rc = sqlite3_open_v2(":memory:", &db, SQLITE_OPEN_READWRITE|SQLITE_OPEN_CREATE, "unix");
  if( rc==SQLITE_OK ){
    sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 1, (int*)0);
    rc = sqlite3_load_extension(db, extension, 0, &why);
    if( sqlite3_errcode(db)==SQLITE_NOMEM ) rc = SQLITE_NOMEM;
  }
  if( rc ) rc = failed(rc, extension, why);
  sqlite3_free(why);
  sqlite3_close(db);
  if( rc ) return rc;
  vfs = sqlite3_vfs_find("pagestore");
  if( vfs==0 ) return failed(SQLITE_ERROR, extension, "it registered no VFS called pagestore");
  if( pagestore_suite_wrap ) vfs = pagestore_suite_wrap(vfs);
  return sqlite3_vfs_register(vfs, 1);
}
