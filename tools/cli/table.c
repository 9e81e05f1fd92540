#include "output.h"

#include <stdlib.h>
#include <string.h>

enum { GAP = 2 };

/* Characters, not bytes; good enough for names and sentences. */
static int width_of(const char *text) {
  int width = 0;
  for (; *text != '\0'; text++) width += ((unsigned char)*text & 0xc0) != 0x80;
  return width;
}

static void put_cell(FILE *to, const char *text, int width, bool last) {
  fputs(text, to);
  if (!last) fprintf(to, "%*s", width - width_of(text) + GAP, "");
}

static const json_t *row_at(const json_t *document, const struct cli_block *block, size_t i) {
  return block->rows != NULL ? json_array_get(cli_path(document, block->rows), i) : document;
}

static size_t row_count(const json_t *document, const struct cli_block *block) {
  return block->rows != NULL ? json_array_size(cli_path(document, block->rows)) : 1;
}

static void free_cells(char **cells, size_t n) {
  for (size_t i = 0; i < n; i++) free(cells[i]);
  free(cells);
}

/* Every cell of the rows, row by row; NULL when memory ran out. */
static char **make_cells(const json_t *rows, const struct cli_table *table) {
  size_t n = json_array_size(rows) * table->n_columns;
  char **cells = calloc(n + 1, sizeof *cells);
  if (cells == NULL) return NULL;
  for (size_t i = 0; i < n; i++) {
    const json_t *row = json_array_get(rows, i / table->n_columns);
    cells[i] = cli_template(row, table->columns[i % table->n_columns].text);
    if (cells[i] != NULL) continue;
    free_cells(cells, n);
    return NULL;
  }
  return cells;
}

static const char *cell_text(const char *cell) {
  return *cell != '\0' ? cell : "-";
}

static void put_heading(FILE *to, struct cli_table *table) {
  size_t n = table->n_columns;
  if (table->headed) return;
  for (size_t c = 0; c < n; c++) put_cell(to, table->columns[c].title, table->widths[c], c + 1 == n);
  fputc('\n', to);
  table->headed = true;
}

bool cli_table_add(FILE *to, struct cli_table *table, const json_t *rows) {
  size_t n = table->n_columns, n_cells = json_array_size(rows) * n;
  char **cells = make_cells(rows, table);
  if (cells == NULL) return false;
  for (size_t c = 0; c < n && !table->headed; c++) table->widths[c] = width_of(table->columns[c].title);
  for (size_t i = 0; i < n_cells; i++) {
    int width = width_of(cell_text(cells[i]));
    if (width > table->widths[i % n]) table->widths[i % n] = width;
  }
  put_heading(to, table);
  for (size_t i = 0; i < n_cells; i++) {
    put_cell(to, cell_text(cells[i]), table->widths[i % n], i % n + 1 == n);
    if (i % n + 1 == n) fputc('\n', to);
  }
  free_cells(cells, n_cells);
  return ferror(to) == 0;
}

static bool print_table(FILE *to, const json_t *document, const struct cli_block *block) {
  struct cli_table table = {.columns = block->columns, .n_columns = block->n_columns};
  json_t *one = block->rows == NULL ? json_array() : NULL;
  const json_t *rows = block->rows != NULL ? cli_path(document, block->rows) : one;
  bool ok = one == NULL || json_array_append(one, (json_t *)(uintptr_t)document) == 0;
  ok = ok && cli_table_add(to, &table, rows);
  json_decref(one);
  return ok;
}

static void put_indented(FILE *to, const char *text, int indent) {
  for (; *text != '\0'; text++) {
    fputc(*text, to);
    if (*text == '\n') fprintf(to, "%*s", indent, "");
  }
  fputc('\n', to);
}

static bool print_fields(FILE *to, const json_t *document, const struct cli_block *block) {
  int width = 0;
  for (size_t c = 0; c < block->n_columns; c++) {
    int own = width_of(block->columns[c].title);
    if (own > width) width = own;
  }
  for (size_t i = 0; i < row_count(document, block); i++) {
    if (i > 0) fputc('\n', to);
    for (size_t c = 0; c < block->n_columns; c++) {
      char *text = cli_template(row_at(document, block, i), block->columns[c].text);
      if (text == NULL) return false;
      const char *title = block->columns[c].title;
      if (*text != '\0') {
        fprintf(to, "%s%*s", title, width - width_of(title) + GAP, "");
        put_indented(to, text, width + GAP);
      }
      free(text);
    }
  }
  return ferror(to) == 0;
}

bool cli_blocks_print(FILE *to, const json_t *document, const struct cli_block *blocks, size_t n_blocks) {
  for (size_t i = 0; i < n_blocks; i++) {
    bool ok = false;
    if (i > 0 && row_count(document, &blocks[i]) == 0) continue;
    if (i > 0) fputc('\n', to);
    switch (blocks[i].layout) {
    case CLI_TABLE: ok = print_table(to, document, &blocks[i]); break;
    case CLI_FIELDS: ok = print_fields(to, document, &blocks[i]); break;
    }
    if (!ok) return false;
  }
  return true;
}
